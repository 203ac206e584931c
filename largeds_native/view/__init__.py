"""Looking into a store: tiles with their captions, drawn as a contact sheet (PNG) or written as a page (HTML)."""
