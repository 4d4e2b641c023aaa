"""How the network that outlines a person is trained; what uses it is `pa_lib.pretrained.PersonOutline`."""
