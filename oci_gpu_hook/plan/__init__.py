"""Works out what a container gets, from the request, the host and the image. Pure."""
