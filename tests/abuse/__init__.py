"""What an attacker can get done through an agent that obeys him: no guard rests on the agent's good sense."""
