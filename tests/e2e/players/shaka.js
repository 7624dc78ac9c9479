// Shaka Player, driven by tests/e2e/viewer.py.
const player = new shaka.Player();
const tracks = () => player.getVariantTracks();

window.viewer = {
  async open(url, codec) {
    player.addEventListener('error', (event) => failed(`${event.detail.category} ${event.detail.code}`));
    player.configure({ abr: { enabled: false }, preferredVideo: [{ codec }] });
    await player.attach(video);
    await player.load(url);
  },
  heights: (codec) => tracks().filter((track) => track.videoCodec.startsWith(codec)).map((track) => track.height),
  choose(codec, height) {
    player.selectVariantTrack(
      tracks().find((track) => track.height === height && track.videoCodec.startsWith(codec)),
      true,
    );
  },
};
