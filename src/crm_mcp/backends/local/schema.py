"""The tables of the embedded CRM: one script a version, applied in order, kept in `user_version`.

Moments are milliseconds since 1970 in UTC. Ids are `AUTOINCREMENT`, so that none is ever given twice.
"""

from __future__ import annotations

APPLICATION_ID = 0x43524D31
"""Marks the file as ours: a database of another program is never touched."""

VERSION_1 = """
CREATE TABLE stages (
    n INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL,
    folded TEXT NOT NULL, closes TEXT, UNIQUE (owner, folded)
);
CREATE TABLE labels (
    n INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL, folded TEXT NOT NULL,
    starter INTEGER NOT NULL DEFAULT 0, UNIQUE (kind, folded)
);
CREATE TABLE leads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT, first_name TEXT, last_name TEXT, email TEXT, email_key TEXT, phone TEXT, company TEXT, title TEXT,
    status INTEGER REFERENCES labels, owner INTEGER REFERENCES labels, stage INTEGER NOT NULL REFERENCES stages,
    custom_fields TEXT, origin TEXT, sort_name TEXT NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    last_contacted_at INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX leads_by_origin ON leads (origin) WHERE origin IS NOT NULL;
CREATE INDEX leads_by_email ON leads (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX leads_by_phone ON leads (phone) WHERE phone IS NOT NULL;
CREATE INDEX leads_by_status ON leads (status);
CREATE INDEX leads_by_owner ON leads (owner);
CREATE INDEX leads_by_stage ON leads (stage);
CREATE INDEX leads_by_name ON leads (sort_name);
CREATE INDEX leads_by_creation ON leads (created_at);
CREATE INDEX leads_by_update ON leads (updated_at);
CREATE INDEX leads_by_contact ON leads (last_contacted_at);
CREATE TABLE lead_labels (
    label INTEGER NOT NULL REFERENCES labels, lead INTEGER NOT NULL REFERENCES leads ON DELETE CASCADE,
    PRIMARY KEY (label, lead)
) WITHOUT ROWID;
CREATE INDEX labels_by_lead ON lead_labels (lead);
CREATE VIRTUAL TABLE lead_words USING fts5 (
    words, tokenize = 'ascii', detail = none, columnsize = 0, prefix = '1 2 3 4 5'
);
CREATE TABLE notes (
    n INTEGER PRIMARY KEY AUTOINCREMENT, lead INTEGER NOT NULL REFERENCES leads ON DELETE CASCADE,
    content TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT, occurred_at INTEGER NOT NULL, duration_seconds INTEGER,
    direction TEXT
);
CREATE INDEX notes_by_lead ON notes (lead, occurred_at);
CREATE TABLE calls (
    n INTEGER PRIMARY KEY AUTOINCREMENT, lead INTEGER NOT NULL REFERENCES leads ON DELETE CASCADE,
    direction TEXT NOT NULL, duration_seconds INTEGER, outcome TEXT, started_at INTEGER NOT NULL, recording_url TEXT,
    transcript TEXT
);
CREATE INDEX calls_by_lead ON calls (lead, started_at);
CREATE TABLE messages (
    n INTEGER PRIMARY KEY AUTOINCREMENT, lead INTEGER NOT NULL REFERENCES leads ON DELETE CASCADE,
    channel TEXT NOT NULL, direction TEXT NOT NULL, subject TEXT, body TEXT NOT NULL, status TEXT NOT NULL,
    sent_at INTEGER NOT NULL, sender TEXT, recipient TEXT, message_id TEXT
);
CREATE INDEX messages_by_lead ON messages (lead, sent_at);
CREATE TABLE tasks (
    n INTEGER PRIMARY KEY AUTOINCREMENT, lead INTEGER REFERENCES leads ON DELETE CASCADE, title TEXT NOT NULL,
    due_at INTEGER, priority TEXT, completed INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL
);
CREATE INDEX tasks_by_lead ON tasks (lead, created_at);
CREATE INDEX tasks_by_due ON tasks (COALESCE(due_at, 9007199254740991));
CREATE TABLE deals (
    n INTEGER PRIMARY KEY AUTOINCREMENT, lead INTEGER REFERENCES leads ON DELETE CASCADE, name TEXT NOT NULL,
    value REAL, currency TEXT, stage INTEGER NOT NULL REFERENCES stages, status TEXT NOT NULL, closes_at INTEGER,
    owner INTEGER REFERENCES labels, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE INDEX deals_by_lead ON deals (lead);
CREATE INDEX deals_by_stage ON deals (stage);
CREATE INDEX deals_by_owner ON deals (owner);
CREATE TABLE mailboxes (
    n INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT NOT NULL UNIQUE COLLATE NOCASE,
    is_default INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sequences (n INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE);
CREATE TABLE steps (
    sequence INTEGER NOT NULL REFERENCES sequences ON DELETE CASCADE, position INTEGER NOT NULL,
    after_days INTEGER NOT NULL, channel TEXT NOT NULL, subject TEXT, body TEXT NOT NULL,
    PRIMARY KEY (sequence, position)
) WITHOUT ROWID;
CREATE TABLE enrolments (
    n INTEGER PRIMARY KEY AUTOINCREMENT, sequence INTEGER NOT NULL REFERENCES sequences ON DELETE CASCADE,
    lead INTEGER NOT NULL REFERENCES leads ON DELETE CASCADE, enrolled_at INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, ended_at INTEGER
);
CREATE UNIQUE INDEX enrolments_active ON enrolments (sequence, lead) WHERE ended_at IS NULL;
CREATE INDEX enrolments_by_lead ON enrolments (lead);
CREATE TABLE blocked (
    address TEXT NOT NULL, channel TEXT NOT NULL, reason TEXT, blocked_at INTEGER NOT NULL,
    PRIMARY KEY (address, channel)
) WITHOUT ROWID;

INSERT INTO stages (owner, position, name, folded, closes) VALUES
    ('leads', 1, 'New', 'new', NULL), ('leads', 2, 'Contacted', 'contacted', NULL),
    ('leads', 3, 'Qualified', 'qualified', NULL), ('leads', 4, 'Customer', 'customer', NULL),
    ('deals', 1, 'Discovery', 'discovery', NULL), ('deals', 2, 'Proposal', 'proposal', NULL),
    ('deals', 3, 'Negotiation', 'negotiation', NULL), ('deals', 4, 'Closed Won', 'closed won', 'won'),
    ('deals', 5, 'Closed Lost', 'closed lost', 'lost');
INSERT INTO labels (kind, name, folded, starter) VALUES
    ('status', 'new', 'new', 1), ('status', 'working', 'working', 1), ('status', 'nurturing', 'nurturing', 1),
    ('status', 'unresponsive', 'unresponsive', 1), ('status', 'disqualified', 'disqualified', 1);
INSERT INTO sequences (name, folded) VALUES ('Follow-up', 'follow-up');
INSERT INTO steps (sequence, position, after_days, channel, subject, body) VALUES
    (1, 1, 1, 'email', 'Good to meet you',
     'Thank you for your time. Is there anything you would like to see before we talk again?'),
    (1, 2, 3, 'email', 'A short summary',
     'Here is a short summary of what we spoke about. Which part matters most to you?'),
    (1, 3, 7, 'email', 'Shall we talk next week?',
     'Would a quarter of an hour next week suit you? A day is enough as an answer.');
"""

MIGRATIONS: tuple[str, ...] = (VERSION_1,)
"""The script that leads to version 1, to version 2 and so on."""
