"""Users, groups and API tokens, in the style of the other pages. create_token creates tokens, this page revokes them.

A person who may change users or groups can grant nobody, themselves included, more rights than they hold. They can
grant only their own rights, and cannot change a login or group that holds more. Superusers may do everything.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin

# Importing these two registers their models; import them before ours, so that ours replace them.
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import ManyToManyField, QuerySet
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin as KnoxTokenAdmin
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from sagas.admin.parameters import DeclaredParameters

for model in (User, Group, AuthToken):
    admin.site.unregister(model)

# Only a superuser may create superusers and grant access to the admin.
SUPERUSERS_ONLY = ("is_staff", "is_superuser")


class _WithinOwnRights(DeclaredParameters, ModelAdmin):  # type: ignore[misc]
    """Holders of rights, such as logins and groups; a person with fewer rights cannot change them."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._is_within(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._is_within(request, obj)

    def formfield_for_manytomany(self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """Offer only the rights and groups that the person may grant; the form accepts no others."""
        if not request.user.is_superuser:
            kwargs["queryset"] = _grantable(request, db_field)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def _is_within(self, request: HttpRequest, holder: Any) -> bool:
        if holder is None or request.user.is_superuser:
            return True
        return not getattr(holder, "is_superuser", False) and self.rights_of(holder) <= own_rights(request)

    def rights_of(self, holder: Any) -> set[int]:
        """Return the rights that a login or a group holds, active or not."""
        raise NotImplementedError


@admin.register(User)
class UserAdmin(_WithinOwnRights, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        fields: tuple[str, ...] = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, *SUPERUSERS_ONLY)

    def rights_of(self, holder: User) -> set[int]:
        return _rights_of_user(holder)


@admin.register(Group)
class GroupAdmin(_WithinOwnRights, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Groups."""

    def rights_of(self, holder: Group) -> set[int]:
        return set(holder.permissions.values_list("pk", flat=True))


@admin.register(AuthToken)
class TokenAdmin(DeclaredParameters, KnoxTokenAdmin, ModelAdmin):  # type: ignore[misc]
    list_display = ("token_key", "user", "created", "expiry")
    fields = ("token_key", "user", "created", "expiry")
    readonly_fields = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    # Knox searches the digests too, which would reveal them letter by letter.
    search_fields = ("token_key", "user__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False


def own_rights(request: HttpRequest) -> set[int]:
    """Return the rights of the current user, their own and those of their groups."""
    return _rights_of_user(request.user)


def _rights_of_user(user: Any) -> set[int]:
    direct: set[int] = set(user.user_permissions.values_list("pk", flat=True))
    return direct | set(Permission.objects.filter(group__user=user).values_list("pk", flat=True))


def _grantable(request: HttpRequest, field: ManyToManyField[Any, Any]) -> QuerySet[Any]:
    """Return the rights or groups of a form field that hold nothing beyond the person's own rights."""
    rights = Permission.objects.filter(pk__in=own_rights(request)).select_related("content_type")
    if field.remote_field.model is Permission:
        return rights
    beyond = Permission.objects.exclude(pk__in=rights.values("pk"))
    return Group.objects.exclude(permissions__in=beyond)
