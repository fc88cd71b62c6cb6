"""An OpenAI-compatible gateway: each request goes to the endpoint that is predicted best for it."""
