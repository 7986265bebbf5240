"""The workspace itself: user, team, keys, browsers and webhooks; and what it holds at the beginning."""

from __future__ import annotations

from typing import Any

from crm_mcp.sandbox.emulator import Answer, Call, Refusal, identity, route
from crm_mcp.sandbox.getsales.account import Row, given_in
from crm_mcp.sandbox.getsales.inbox import Inbox
from crm_mcp.sandbox.getsales.sample import furnish, populate

EVENTS = (
    "contact_exported,contact_enriched,contact_replied_email,contact_replied_linkedin_message,"
    "contact_replied_linkedin_inmail,account_exported,contact_accepted_linkedin_connection_request,"
    "sender_profile_sent_linkedin_connection_request,sender_profile_sent_linkedin_message,sender_profile_sent_email,"
    "sender_profile_sent_linkedin_inmail,sender_profile_issue,contact_opened_email,contact_clicked_email,"
    "contact_unsubscribed_email,email_bounced,contact_created,contact_updated,contact_deleted,contact_tag_added,"
    "contact_pipeline_stage_changed"
)
"""The first twelve were found in real deliveries; the others are the sister platform's."""


class GetSalesEmulator(Inbox):
    """GetSales: contacts, companies, flows, LinkedIn and e-mail under one host, behind one key.

    The groups of operations are documented; most paths, bodies and answers were found in public clients and in the
    specification of a sister platform. What they contradict each other about is a switch, as are inferences.
    """

    def begin(self) -> None:
        """Make what an account has at the beginning, and the sample where it is wanted."""
        super().begin()
        self.browsers: dict[str, Row] = {}
        self.hooks: dict[str, Row] = self.tables["webhook"]
        furnish(self)
        for sender in self.rows("sender"):
            self.make_browser(sender_profile_uuid=sender["uuid"], linkedin_account_uuid=sender["linkedin_account_uuid"])
        if self.sample:
            populate(self)

    def work(self) -> None:
        """Do what waits: deliveries, mass actions and deletions."""
        self.deliver()
        self.finish_actions()
        self.finish_deletions()

    def event(self, name: str, lead: str, **more: Any) -> Row:
        """Return the payload of a webhook, as its deliveries are described; they are not signed."""
        row = self.find("lead", lead)
        stage = self.tables["stage"].get(str(row["pipeline_stage_uuid"]), {})
        held = self.tables["list"].get(str(row["list_uuid"]), {})
        return {
            "event_name": name,
            "contact": {**row, "pipeline_stage_name": stage.get("name"), "list_name": held.get("name")},
            "account": self.tables["company"].get(str(row["company_uuid"])),
            "sender_profile": next(iter(self.rows("sender")), None),
            "automation": None,
            "contact_markers": {},
            **more,
        }

    @route("GET", "/id/api/users/current")
    def current_user(self, _: Call) -> Answer:
        """Return the user whose key it is."""
        return Answer(
            {
                "uuid": identity(254, 1),
                "id": 20,
                "first_name": "Robin",
                "last_name": "Sender",
                "email": "robin@sandbox.example",
                "timezone": "Europe/Berlin",
                "config": {},
            }
        )

    @route("GET", "/id/api/teams")
    def list_teams(self, call: Call) -> Answer:
        """List the teams of the user."""
        return Answer(self.page(call.query, [self._team()]))

    @route("GET", "/id/api/teams/{team}")
    def get_team(self, _: Call, team: str) -> Answer:
        """Read one team."""
        if team != str(self.team):
            raise Refusal(404, "No query results for team.")
        return Answer(self._team())

    @route("POST", "/id/api/teams/{team}/check-limits")
    def check_team_limits(self, call: Call, team: str) -> Answer:
        """Say whether the subscription has room for more sender profiles; 402 where not."""
        self.get_team(call, team)
        wanted = self.checked(call.body, {"sender_profiles_limit": "required|integer"})["sender_profiles_limit"]
        if wanted > 10:
            raise Refusal(402, "Insufficient capacity.")
        return Answer({"monthly": {"used": len(self.rows("sender")), "limit": 10}, "yearly": None})

    @route("POST", "/id/api/jwt-tokens/create-api-key")
    def create_api_key(self, call: Call) -> Answer:
        """Answer as if a key were made; the emulator accepts its own alone."""
        name = self.checked(call.body, {"name": "required|string"})["name"]
        return Answer(
            {"jti": "sandbox-2", "user_id": 20, "team_id": self.team, "name": name, "last_token": "not-a-key"}
        )

    @route("POST", "/browsers/api/linkedin-browsers/list")
    def list_browsers(self, call: Call) -> Answer:
        """List browsers."""
        body = given_in(call)
        return Answer(self.page(body, list(self.browsers.values())))

    @route("POST", "/browsers/api/linkedin-browsers")
    def create_browser(self, call: Call) -> Answer:
        """Make a browser for a sender profile."""
        rules = {"sender_profile_uuid": "required|exists:sender", "proxy_country_code": "string"}
        return Answer(self.make_browser(**self.checked(call.body, rules)), 201)

    @route("GET", "/browsers/api/linkedin-browsers/{browser}")
    def get_browser(self, _: Call, browser: str) -> Answer:
        """Read one browser."""
        return Answer(self._browser(browser))

    @route("PUT", "/browsers/api/linkedin-browsers/{browser}")
    def update_browser(self, call: Call, browser: str) -> Answer:
        """Change a browser."""
        return Answer(self.change(self._browser(browser), self.checked(call.body, {"name": "string"})))

    @route("DELETE", "/browsers/api/linkedin-browsers/{browser}")
    def delete_browser(self, _: Call, browser: str) -> Answer:
        """Delete a browser."""
        self._browser(browser)
        del self.browsers[browser]
        return Answer(status=204)

    @route("POST", "/browsers/api/linkedin-browsers/{browser}/run")
    def run_browser(self, _: Call, browser: str) -> Answer:
        """Start a browser's session."""
        self.change(self._browser(browser), {"status": "running"})
        return Answer(status=204)

    @route("POST", "/browsers/api/linkedin-browsers/{browser}/stop")
    def stop_browser(self, _: Call, browser: str) -> Answer:
        """Stop a browser's session."""
        self.change(self._browser(browser), {"status": "stopped"})
        return Answer(status=204)

    @route("POST", "/browsers/api/linkedin-browsers/{browser}/set-proxy")
    def set_browser_proxy(self, call: Call, browser: str) -> Answer:
        """Choose a browser's proxy."""
        return Answer(self.change(self._browser(browser), self.checked(call.body, {"proxy_country_code": "string"})))

    @route("POST", "/browsers/api/linkedin-browsers/{browser}/share")
    def share_browser(self, call: Call, browser: str) -> Answer:
        """Share a browser with others of the team."""
        emails = self.checked(call.body, {"recipients": "required|array"})["recipients"]
        return Answer(self.change(self._browser(browser), {"shared_emails": emails}))

    @route("POST", "/browsers/api/linkedin-browsers/{browser}/generate-external-access-key")
    def browser_access_key(self, _: Call, browser: str) -> Answer:
        """Answer as if a public log-in link were made."""
        self._browser(browser)
        return Answer({"external_access_key": "not-a-key", "cloud_browser_url": "https://browser.sandbox.example/"})

    @route("POST", "/flows/client-api/sender-profiles/connect-external")
    def connect_external(self, call: Call) -> Answer:
        """Make a sender profile on a browser of another maker."""
        names = ("first_name", "last_name", "gologin_external_id")
        given = self.checked(call.body, {**dict.fromkeys(names, "required|string"), "label": "string"})
        return Answer(self.make("sender", **{"label": None, "status": "enabled", "mailbox_uuid": None, **given}), 201)

    @route("GET", "/integrations/api/webhooks")
    def list_webhooks(self, call: Call) -> Answer:
        """List webhooks."""
        return Answer(self.page(call.query, list(self.hooks.values())))

    @route("POST", "/integrations/api/webhooks")
    def create_webhook(self, call: Call) -> Answer:
        """Subscribe one URL to one event; two sources give two shapes of the answer."""
        given = self.checked(
            call.body,
            {
                "name": "required|string",
                "event": f"required|in:{EVENTS}",
                "target_url": "required|url",
                "request_method": "in:POST,GET,PUT,PATCH,DELETE",
                "filters": "object",
                "status": "in:on,off",
            },
        )
        row = self.make("webhook", **{"request_method": "POST", "filters": None, "status": "on", **given}, user_id=20)
        return Answer({"data": row} if self.switches["webhook_answer"] == "data" else row, 201)

    @route("GET", "/integrations/api/webhooks/{webhook}")
    def get_webhook(self, _: Call, webhook: str) -> Answer:
        """Read one webhook."""
        return Answer(self.find("webhook", webhook))

    @route("PUT", "/integrations/api/webhooks/{webhook}")
    def update_webhook(self, call: Call, webhook: str) -> Answer:
        """Change a webhook."""
        rules = {
            "name": "string",
            "event": f"in:{EVENTS}",
            "target_url": "url",
            "request_method": "in:POST,GET,PUT,PATCH,DELETE",
            "filters": "object",
            "status": "in:on,off",
        }
        return Answer(self.change(self.find("webhook", webhook), self.checked(call.body, rules)))

    @route("DELETE", "/integrations/api/webhooks/{webhook}")
    def delete_webhook(self, _: Call, webhook: str) -> Answer:
        """Delete a webhook."""
        self.drop("webhook", webhook)
        return Answer(status=204)

    @route("POST", "/integrations/api/webhooks/test")
    def test_webhook(self, call: Call) -> Answer:
        """Answer as if a sample event had been delivered: the emulator calls nobody."""
        given = self.checked(
            call.body,
            {
                "uuid": "required|string",
                "event": f"required|in:{EVENTS}",
                "request_method": "required|in:POST,GET,PUT,PATCH,DELETE",
                "target_url": "required|url",
            },
        )
        self.find("webhook", given["uuid"])
        return Answer({"status": 200, "body": ""})

    def make_browser(self, **fields: Any) -> Row:
        """Add a browser; its ids are numbers."""
        at, number = self.now(), len(self.browsers) + 1
        row: Row = {
            "id": number, "team_id": self.team, "status": "stopped", "linkedin_account_uuid": None, "shared_emails": [],
            "proxy_country_code": None, "created_at": at, "updated_at": at, **fields,
        }  # fmt: skip
        self.browsers[str(number)] = row
        return row

    def _browser(self, browser: str) -> Row:
        if browser not in self.browsers:
            raise Refusal(404, "No query results for linkedin browser.")
        return self.browsers[browser]

    def _team(self) -> Row:
        return {
            "id": self.team,
            "name": "Sandbox team",
            "status": "active",
            "features": {"sender_profiles": 10, "contacts": 10_000},
            "credits": {"advanced_enrichment": self.credits},
            "created_at": "2026-01-05T09:00:00.000000Z",
        }
