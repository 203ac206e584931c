"""Shows images of a store: tiles with captions, as a contact sheet (PNG) or as a page (HTML)."""
