"""The road from an agent's wish to a CRM: find, check, ask, record, act, record."""
