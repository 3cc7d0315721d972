"""What ``vidunmask evaluate`` is made of: how masks get on faces and clips, what is measured, and how it is shown."""
