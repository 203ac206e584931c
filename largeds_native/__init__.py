"""Pack an image data set once, then train at memory bandwidth."""
