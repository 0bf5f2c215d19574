"""An exchange with the model as steps, without I/O; a driver performs them."""
