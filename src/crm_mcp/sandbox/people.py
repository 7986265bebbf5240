"""The people of the sample data: invented, with addresses and numbers that belong to nobody."""

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """Somebody in the sample."""

    first: str
    last: str
    title: str
    company: str
    domain: str

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first} {self.last}"

    @property
    def email(self) -> str:
        """An address in a domain that is reserved for examples."""
        return f"{self.first}.{self.last}@{self.domain}".lower()

    @property
    def phone(self) -> str:
        """A number out of those that are reserved for fiction."""
        return f"+1212555{100 + PEOPLE.index(self):04d}"


_ACME, _NORTHWIND, _BLUEBIRD = "acme-robotics.example", "northwind-dairy.example", "bluebird-travel.example"
_HARBOUR, _FERN, _LUMEN = "harbour-legal.example", "fern-and-field.example", "lumen-optics.example"

PEOPLE: tuple[Person, ...] = (
    Person("Jane", "Whitfield", "Head of Operations", "Acme Robotics", _ACME),
    Person("Omar", "Haddad", "Buyer", "Acme Robotics", _ACME),
    Person("Ines", "Ferreira", "Managing Director", "Northwind Dairy", _NORTHWIND),
    Person("Tom", "Okafor", "Plant Manager", "Northwind Dairy", _NORTHWIND),
    Person("Mina", "Sato", "Marketing Lead", "Bluebird Travel", _BLUEBIRD),
    Person("Louis", "Moreau", "Founder", "Bluebird Travel", _BLUEBIRD),
    Person("Greta", "Lindqvist", "Partner", "Harbour Legal", _HARBOUR),
    Person("Samuel", "Adeyemi", "Office Manager", "Harbour Legal", _HARBOUR),
    Person("Carla", "Rossi", "Owner", "Fern and Field", _FERN),
    Person("Piotr", "Nowak", "Head of Sales", "Fern and Field", _FERN),
    Person("Anita", "Desai", "CTO", "Lumen Optics", _LUMEN),
    Person("Ben", "Carter", "Procurement", "Lumen Optics", _LUMEN),
)
