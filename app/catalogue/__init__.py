"""The menus: methods and base models."""
