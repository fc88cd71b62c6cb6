"""The HTTP service: the api under /v1, with the domain's own words as its schema. Needs the extra `serve`."""
