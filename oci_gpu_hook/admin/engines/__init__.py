"""Install and uninstall, an engine a module."""
