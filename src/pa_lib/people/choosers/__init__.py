"""Who is hidden: one file per way of choosing."""
