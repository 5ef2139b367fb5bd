"""What a container gets, worked out from the request, the host and the image. Pure."""
