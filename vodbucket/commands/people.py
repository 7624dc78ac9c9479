"""`vodbucket people`: add, list and revoke people, and issue their tokens. It calls a server."""

import asyncio
from typing import Annotated

import typer

from backend.core.access.people import Role
from backend.core.settings import ClientSettings, load
from vodbucket.client.api import open_api
from vodbucket.client.local_file import as_text
from vodbucket.client.responses import AddedPerson, Person
from vodbucket.commands.options import PEOPLE_PANEL, AsJson
from vodbucket.output.messages import print_json, print_line
from vodbucket.output.tables import show_people

people = typer.Typer(help="Let people in, and out again.", no_args_is_help=True)
app = typer.Typer()
app.add_typer(people, name="people", rich_help_panel=PEOPLE_PANEL)

PersonId = Annotated[str, typer.Argument(metavar="ID", help="Id of a person, as `people list` shows it.")]


@people.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call them.")],
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.VIEWER,
    as_json: AsJson = False,
) -> None:
    """Add a person and print their token, which is not shown again."""
    added = asyncio.run(_add(as_text(name), role))
    if as_json:
        print_json(added)
    else:
        print_line(f"added: {added.id}", err=True)
        print_line(added.token)


@people.command("list")
def list_people(as_json: AsJson = False) -> None:
    """List everyone who was added."""
    found = asyncio.run(_list())
    if as_json:
        print_json(found)
    else:
        show_people(found)


@people.command()
def revoke(person: PersonId) -> None:
    """Withdraw a person's access, for good. Their videos stay."""
    asyncio.run(_revoke(person))
    print_line(f"revoked: {person}")


@people.command()
def token(person: PersonId) -> None:
    """Print a new token for a person. Their old one, and what they are signed in to with it, ends."""
    print_line(asyncio.run(_token(person)))


async def _add(name: str, role: Role) -> AddedPerson:
    async with open_api(load(ClientSettings)) as api:
        return await api.add_person(name, role)


async def _list() -> list[Person]:
    async with open_api(load(ClientSettings)) as api:
        return await api.people()


async def _revoke(person: str) -> None:
    async with open_api(load(ClientSettings)) as api:
        await api.revoke_person(person)


async def _token(person: str) -> str:
    async with open_api(load(ClientSettings)) as api:
        return await api.issue_token(person)
