raise ImportError("yaml must not be imported here")
