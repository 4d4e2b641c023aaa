"""Who is in the video: find, track, link, choose, mask; and the tracks file that records all of it."""
