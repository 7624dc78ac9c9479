// hls.js, driven by tests/e2e/viewer.py.
const hls = new Hls({ capLevelToPlayerSize: true });

window.viewer = {
  async open(url, codec) {
    hls.on(Hls.Events.ERROR, (_, error) => error.fatal && failed(`${error.type} ${error.details}`));
    const parsed = new Promise((resolve) => hls.once(Hls.Events.MANIFEST_PARSED, resolve));
    hls.loadSource(url);
    hls.attachMedia(video);
    await parsed;
    if (codec) hls.loadLevel = hls.levels.findIndex((level) => level.videoCodec.startsWith(codec));
  },
  heights: (codec) =>
    hls.levels.filter((level) => level.videoCodec.startsWith(codec)).map((level) => level.height),
  choose(codec, height) {
    hls.currentLevel = hls.levels.findIndex(
      (level) => level.height === height && level.videoCodec.startsWith(codec),
    );
  },
};
