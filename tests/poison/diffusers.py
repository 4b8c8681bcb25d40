raise ImportError("diffusers must not be imported here")
