"""What an agent sees: tools, resources, prompts, and the texts that they answer with."""
