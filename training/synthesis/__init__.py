"""How a mask is drawn on a photo, part by part; `vidunmask.training.masked_faces` puts the parts together."""
