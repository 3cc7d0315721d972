"""What `race` and `tables` are made of: trainings for one budget, figures face by face, and how they are shown."""
