"""What a prediction is conditioned on, one file each, all behind `AbstractConditioner`."""
