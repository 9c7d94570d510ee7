"""Generated motions of one and two persons by forward kinematics, as depth cameras would record them."""
