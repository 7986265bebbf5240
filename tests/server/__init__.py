"""The server as an agent meets it: through a real MCP client, in each era of the protocol."""
