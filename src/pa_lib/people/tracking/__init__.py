"""From detections to people: motion, association, tracks, links between faces and bodies."""
