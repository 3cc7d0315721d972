"""What `vidunmask.training.evaluate` and ``vidunmask evaluate`` are made of: how masks get on faces and clips, what is measured,
and how it is shown."""
