"""People: add and list them, change and withdraw their access, and issue their tokens."""

from http import HTTPStatus

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from pydantic import AwareDatetime, BaseModel, ConfigDict

from backend.core.access.people import GivenName, Person, PersonEdit, Role
from backend.core.errors import PersonNotFound
from backend.core.ids import parse_id
from backend.routes.services import FromServices
from backend.web.error_responses import documented

_ERRORS = documented(
    HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND
)
_PATH = "/api/people/{person_id:str}"


class NewPerson(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: GivenName
    role: Role


class PersonItem(BaseModel):
    """A person. `revoked`: their access was withdrawn for good."""

    id: str
    name: str
    role: Role
    revoked: bool
    created_at: AwareDatetime

    @classmethod
    def of(cls, person: Person) -> "PersonItem":
        return cls.model_validate(dict(person))


class AddedPerson(PersonItem):
    """A person with their token, which is not shown again."""

    token: str


class PeopleList(BaseModel):
    people: tuple[PersonItem, ...]


class NewToken(BaseModel):
    """A token, which is not shown again."""

    token: str


@get(
    "/api/people",
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["people"],
)
async def list_people(services: FromServices) -> PeopleList:
    """List everyone, the revoked too, in the order in which they were added."""
    return PeopleList(people=tuple(map(PersonItem.of, await services.people.all())))


@post(
    "/api/people",
    responses=documented(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    tags=["people"],
)
async def add_person(services: FromServices, data: JSONBody[NewPerson]) -> Response[AddedPerson]:
    """Add a person, and issue a token for them."""
    person = await services.people.add(data.name, data.role)
    token = await services.people.issue_token(person.id)
    return Response(
        AddedPerson(**dict(PersonItem.of(person)), token=token),
        status_code=HTTPStatus.CREATED,
        headers={"location": f"/api/people/{person.id}"},
    )


@get(_PATH, responses=_ERRORS, tags=["people"])
async def get_person(services: FromServices, person_id: FromPath[str]) -> PersonItem:
    """Get a person."""
    person = await services.people.find(parse_id(person_id))
    if person is None:
        raise PersonNotFound
    return PersonItem.of(person)


@patch(_PATH, responses=_ERRORS, tags=["people"])
async def patch_person(
    services: FromServices, person_id: FromPath[str], data: JSONBody[PersonEdit]
) -> PersonItem:
    """Change a person's name or role."""
    person = await services.people.edit(parse_id(person_id), data)
    services.principals.forget_all()
    return PersonItem.of(person)


@delete(_PATH, responses=_ERRORS, tags=["people"])
async def revoke_person(services: FromServices, person_id: FromPath[str]) -> None:
    """Withdraw a person's access, for good. Their sessions and links end; their videos stay."""
    await services.people.revoke(parse_id(person_id))
    services.principals.forget_all()


@post(f"{_PATH}/token", status_code=HTTPStatus.CREATED, responses=_ERRORS, tags=["people"])
async def issue_token(services: FromServices, person_id: FromPath[str]) -> NewToken:
    """Issue a token that replaces the person's others. The sessions and links made with those end."""
    token = await services.people.issue_token(parse_id(person_id))
    services.principals.forget_all()
    return NewToken(token=token)


HANDLERS = (list_people, add_person, get_person, patch_person, revoke_person, issue_token)
