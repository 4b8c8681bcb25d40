raise ImportError("cv2 must not be imported here")
