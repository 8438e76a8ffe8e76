"""Kill parts of a running service at random, again and again, and check the books afterwards: nothing may be lost."""
