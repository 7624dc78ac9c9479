/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as our server writes them. */

export interface StreamedEvent {
  type: string;
  data: string;
}

/** Yield the events of a response. Each has one line of data. */
export async function* eventsIn(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamedEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      text += decoder.decode(piece.value, { stream: true });
      const blocks = text.split('\r\n\r\n');
      text = blocks.pop()!;
      for (const block of blocks) {
        const fields = new Map(block.split('\r\n').map((line) => [line.split(':', 1)[0]!, line.replace(/^[^:]*: ?/, '')]));
        yield { type: fields.get('event') ?? 'message', data: fields.get('data') ?? '' };
      }
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
