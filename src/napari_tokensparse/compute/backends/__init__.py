"""How a network is run: eagerly, by OpenVINO, compiled, or in half precision on a GPU."""
