/** The texts in Uppy's panel. */

export const CORE_TEXTS = {
  inferiorSize: '“%{rejected}” is empty.',
  exceedsSize: '“%{file}” is too large. The server accepts files up to %{size}.',
  youCanOnlyUploadFileTypes: '“%{rejected}” doesn’t look like a video or audio file.',
  noDuplicates: '“%{fileName}” is already in the list.',
  failedToUpload: 'Couldn’t upload “%{file}”.',
  noInternetConnection: 'You’re offline. Uploads resume when you’re back online.',
  connectedToInternet: 'You’re back online.',
};

export const PANEL_TEXTS = {
  dashboardTitle: 'Upload videos',
  dropHint: 'Drop your videos here',
  dropPasteFiles: 'Drop videos here or %{browseFiles}',
  dropPasteImportFiles: 'Drop videos here, %{browseFiles} or record one',
  browseFiles: 'choose files',
  importFrom: '%{name}',
  editFileWithFilename: 'Edit the title of %{file}',
  editing: 'Title of %{file}',
  finishEditingFile: 'Back to the list',
  saveChanges: 'Save',
  removeFile: 'Remove %{file}',
  copyLink: 'Copy the link to the video',
  copyLinkToClipboardSuccess: 'Link copied',
  copyLinkToClipboardFallback: 'Copy this link',
  sessionRestored: 'Welcome back',
  recoveredXFiles: {
    0: 'Choose the file again to resume its upload.',
    1: 'Choose the %{smart_count} files again to resume their uploads.',
  },
  recoveredAllFiles: 'Your files are still here. Press the button to continue.',
  reSelect: 'Choose again',
  filesUploadedOfTotal: { 0: '%{complete} of %{smart_count} file', 1: '%{complete} of %{smart_count} files' },
  complete: 'All uploaded',
  uploadComplete: 'Uploaded',
  uploadFailed: 'Some uploads failed',
  retry: 'Try again',
  myDevice: 'Files',
};

export const CAMERA_TEXTS = {
  noCameraTitle: 'No camera found',
  noCameraDescription: 'Connect a camera to record a video.',
  submitRecordedFile: 'Use this recording',
  discardRecordedFile: 'Discard this recording',
  startRecording: 'Start recording',
  stopRecording: 'Stop recording',
  allowAccessTitle: 'Allow access to your camera',
  allowAccessDescription: 'Your browser will ask for permission. Nothing is uploaded until you choose to.',
};

export const SCREEN_TEXTS = {
  pluginNameScreenCapture: 'Screen',
  startCapturing: 'Start screen recording',
  stopCapturing: 'Stop recording',
  submitRecordedFile: 'Use this recording',
  streamActive: 'Ready to record',
  streamPassive: 'Nothing is being shared',
  micDisabled: 'Microphone is off',
  discardMediaFile: 'Discard this recording',
};
