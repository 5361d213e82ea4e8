"""Forms of projects and their members."""

from typing import Any

from django import forms
from django.contrib.auth import get_user_model

from curation.models import Project, Role


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=120, label="Project name")
    description = forms.CharField(
        max_length=4000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What the model is for and what you want to find out. Members read this first.",
    )

    @classmethod
    def of(cls, project: Project) -> "ProjectForm":
        return cls(initial={"name": project.name, "description": project.description})


class MemberForm(forms.Form):
    username = forms.CharField(max_length=150, label="User name")
    role = forms.ChoiceField(
        choices=Role.choices,
        initial=Role.EDITOR,
        help_text="Viewers read; editors also upload, train and propose; reviewers also review "
        "results; owners also manage members.",
    )

    def clean_username(self) -> object:
        user = get_user_model().objects.filter(username=self.cleaned_data["username"]).first()
        if user is None:
            raise forms.ValidationError("There is no account with this user name.")
        return user


class ConfirmDeletion(forms.Form):
    """Asks for the name of what goes with everything in it; for lesser things only the button."""

    typed_name = forms.CharField(max_length=200, label="Type the project's name to confirm")

    def __init__(self, *arguments: Any, name: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.name = name
        if not name:
            del self.fields["typed_name"]

    def clean_typed_name(self) -> str:
        typed = str(self.cleaned_data["typed_name"])
        if typed != self.name.strip():
            raise forms.ValidationError("This is not the project's name.")
        return typed
