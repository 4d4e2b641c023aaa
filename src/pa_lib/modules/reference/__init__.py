"""Pictures of heads that a replacement goes by, and the light in which they stand."""
