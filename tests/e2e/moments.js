// Notes in `window.moments` what a viewer waits for, by the page's own clock (milliseconds of performance.now()).
(() => {
  const moments = (window.moments = {
    uploaded: null, // when the last byte of an upload was sent
    firstFrame: null, // when the first frame was shown
    durationThen: null, // the length, in seconds, that the player knew at that time
    seeked: null, // when the first frame after the latest seek was shown
    sought: null, // when that seek began
    stalls: [], // the positions at which playback stopped for want of data, other than after a seek or load
    loads: 0, // how often media was loaded into the video element
  });
  let isPlaying = false;

  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) {
    if (body instanceof Blob) this.upload.addEventListener('load', () => (moments.uploaded = performance.now()));
    return send.call(this, body);
  };

  const on = (event, listener) =>
    document.addEventListener(event, ({ target }) => target instanceof HTMLVideoElement && listener(target), true);
  on('loadedmetadata', (video) => {
    moments.loads += 1;
    video.requestVideoFrameCallback((now) => {
      if (moments.firstFrame !== null) return;
      moments.firstFrame = now;
      moments.durationThen = video.duration;
    });
  });
  on('emptied', () => (isPlaying = false));
  on('playing', () => (isPlaying = true));
  on('seeking', (video) => {
    isPlaying = false;
    moments.sought = performance.now();
    moments.seeked = null;
    const target = video.currentTime;
    const shown = (now, { mediaTime }) => {
      if (moments.seeked === null && mediaTime > target - 0.5) moments.seeked = now;
      else if (moments.seeked === null) video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback(shown);
  });
  // A busy machine also stops for want of time to decode, or at the last frame, before it says that this was the end.
  const lacksData = ({ buffered, currentTime, duration }) => {
    const needed = Math.min(currentTime + 0.5, duration - 0.1);
    return ![...Array(buffered.length).keys()].some((i) => buffered.start(i) <= currentTime && needed < buffered.end(i));
  };
  on('waiting', (video) => isPlaying && lacksData(video) && moments.stalls.push(video.currentTime));
})();
