raise ImportError("numpy must not be imported here")
