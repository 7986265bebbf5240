"""What tests of whole actions are made of: a server's parts, who answers its questions, its clock, and CRMs behind it.

- `clock`: time that stands still, or goes on, and is put forward
- `person`: who answers questions, and remembers them
- `settings`: a policy, and the settings of a server with one connection
- `crms`: the embedded CRM, watched, and with less than it can do
- `app`: a server process without a client, in front of any CRM or of the embedded one
- `small_vendor`: a vendor with a catalogue of operations, and any vendor's emulator, with a server in front
"""
