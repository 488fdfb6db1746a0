"""CT to PET: the systems that translate, and the virtual scanner that puts them to work."""
