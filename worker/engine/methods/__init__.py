"""The methods, a file each. `registry` has them by name; whoever wants one imports it alone, and not all of them."""
