"""What a vendor documents and no tool serves: found, judged and carried out under every rule."""
