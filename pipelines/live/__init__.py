"""Live mode: from a camera, a stream or a file at its own pace to a window, a recording, a virtual camera, a stream."""
