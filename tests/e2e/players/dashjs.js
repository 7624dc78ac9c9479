// dash.js, driven by tests/e2e/viewer.py.
const player = dashjs.MediaPlayer().create();

window.viewer = {
  async open(url, codec) {
    player.on(dashjs.MediaPlayer.events.ERROR, (event) => failed(`${event.error.code} ${event.error.message}`));
    player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: false } } } });
    player.setCustomInitialTrackSelectionFunction((tracks) => {
      const wanted = tracks.filter((track) => track.codec.includes(codec));
      return wanted.length ? wanted : tracks;
    });
    const ready = new Promise((resolve) => player.on(dashjs.MediaPlayer.events.STREAM_INITIALIZED, resolve));
    player.initialize(video, url, true);
    await ready;
  },
  heights: (codec) =>
    player
      .getRepresentationsByType('video')
      .filter((one) => one.codecs.includes(codec))
      .map((one) => one.height),
  choose(codec, height) {
    const index = player.getRepresentationsByType('video').findIndex((one) => one.height === height);
    player.setRepresentationForTypeByIndex('video', index, true);
  },
};
