/** What Uppy says, in this site's words. */

export const CORE_TEXTS = {
  inferiorSize: 'This file is empty, so there is nothing to upload.',
  exceedsSize: '“%{file}” is larger than %{size}, which is the most that the server accepts.',
  youCanOnlyUploadFileTypes: 'This does not look like a video.',
  noDuplicates: '“%{fileName}” is already in the list.',
  failedToUpload: '“%{file}” could not be uploaded.',
  noInternetConnection: 'You are offline. Uploads go on as soon as you are back.',
  connectedToInternet: 'You are back online.',
};

export const PANEL_TEXTS = {
  dashboardTitle: 'Upload videos',
  dropHint: 'Drop your videos here',
  dropPasteFiles: 'Drop videos here or %{browseFiles}',
  dropPasteImportFiles: 'Drop videos here, %{browseFiles} or record one',
  browseFiles: 'choose files',
  importFrom: '%{name}',
  editFileWithFilename: 'Change the title of %{file}',
  editing: 'Title of %{file}',
  finishEditingFile: 'Back to the list',
  saveChanges: 'Save',
  removeFile: 'Remove %{file}',
  copyLink: 'Copy the link to the video',
  copyLinkToClipboardSuccess: 'The link is copied.',
  copyLinkToClipboardFallback: 'Copy this link',
  sessionRestored: 'Welcome back',
  recoveredXFiles: {
    0: 'Choose the file once more, and its upload goes on where it stopped.',
    1: 'Choose the %{smart_count} files once more, and their uploads go on where they stopped.',
  },
  recoveredAllFiles: 'Your files are still here. Press the button to go on.',
  reSelect: 'Choose again',
  filesUploadedOfTotal: { 0: '%{complete} of %{smart_count} file', 1: '%{complete} of %{smart_count} files' },
  complete: 'All uploaded',
  uploadComplete: 'Uploaded',
  uploadFailed: 'Some files could not be uploaded',
  retry: 'Try again',
  myDevice: 'Files',
};

export const CAMERA_TEXTS = {
  noCameraTitle: 'There is no camera',
  noCameraDescription: 'Connect a camera to record a video.',
  submitRecordedFile: 'Use this recording',
  discardRecordedFile: 'Discard this recording',
  startRecording: 'Start recording',
  stopRecording: 'Stop recording',
  allowAccessTitle: 'May this page use your camera?',
  allowAccessDescription: 'Your browser asks you. Nothing is sent before you say so.',
};

export const SCREEN_TEXTS = {
  pluginNameScreenCapture: 'Screen',
  startCapturing: 'Start recording the screen',
  stopCapturing: 'Stop recording',
  submitRecordedFile: 'Use this recording',
  streamActive: 'Recording is possible',
  streamPassive: 'Nothing is shared',
  micDisabled: 'Without the microphone',
  discardMediaFile: 'Discard this recording',
};
