"""Routes of the pages for people. Every name is used by templates; every page is one function."""

from django.contrib.auth import views as auth
from django.urls import path

from curation.models import Baseline, Dataset, DatasetVersion, Model, Project, Proposal
from curation.web.views import (
    account,
    baselines,
    behaviours,
    datasets,
    deletions,
    edits,
    example_values,
    examples,
    guide,
    jobs,
    members,
    models,
    probe_sets,
    projects,
    proposals,
    registrations,
    reports,
    suggestions,
    token_influence,
    tokens,
    track_record,
    version_diff,
)

DELETABLE = {
    "projects": Project,
    "datasets": Dataset,
    "versions": DatasetVersion,
    "models": Model,
    "baselines": Baseline,
    "proposals": Proposal,
}

urlpatterns = [
    path("", projects.home, name="home"),
    path("guide/", guide.guide, name="guide"),
    # account
    path("sign-in/", account.SignIn.as_view(), name="sign-in"),
    path("sign-out/", auth.LogoutView.as_view(), name="sign-out"),
    path("account/", account.account, name="account"),
    path("account/tokens/", tokens.token_list, name="tokens"),
    path("account/tokens/<uuid:pk>/revoke/", tokens.revoke_token, name="revoke-token"),
    path("account/password/", account.ChangePassword.as_view(), name="password"),
    # projects
    path("projects/new/", projects.new_project, name="new-project"),
    path("projects/sample/", projects.load_sample, name="load-sample"),
    path("projects/<uuid:pk>/", projects.project, name="project"),
    path("projects/<uuid:pk>/settings/", projects.edit_project, name="edit-project"),
    path("projects/<uuid:pk>/members/", members.members, name="members"),
    path("projects/<uuid:pk>/members/remove/", members.remove_member, name="remove-member"),
    path("projects/<uuid:pk>/audit/", members.audit_log, name="audit"),
    path("projects/<uuid:pk>/jobs/", jobs.job_list, name="jobs"),
    path("projects/<uuid:pk>/track-record/", track_record.track_record, name="track-record"),
    # deleting
    *(
        path(
            f"{nouns}/<uuid:pk>/delete/",
            deletions.delete,
            {"kind": kind},
            name=f"delete-{nouns.removesuffix('s')}",
        )
        for nouns, kind in DELETABLE.items()
    ),
    path("deleted/", deletions.deleted, name="deleted"),
    path("deleted/<uuid:pk>/restore/", deletions.restore, name="restore"),
    # datasets
    path("projects/<uuid:pk>/datasets/", datasets.dataset_list, name="datasets"),
    path("projects/<uuid:pk>/datasets/new/", datasets.new_dataset, name="new-dataset"),
    path("datasets/<uuid:pk>/", datasets.dataset, name="dataset"),
    path("datasets/<uuid:pk>/versions/new/", datasets.new_version, name="new-version"),
    path("versions/<uuid:pk>/", datasets.version, name="version"),
    path("versions/<uuid:pk>/columns/", datasets.columns, name="columns"),
    path("versions/<uuid:pk>/diff/", version_diff.version_diff, name="version-diff"),
    path("versions/<uuid:pk>/examples/", examples.example_list, name="examples"),
    path("versions/<uuid:pk>/examples/one/", examples.one_example, name="example"),
    path("versions/<uuid:pk>/probe-sets/save/", probe_sets.save, name="save-probe-set"),
    path("probe-sets/<uuid:pk>/delete/", probe_sets.delete, name="delete-probe-set"),
    path("versions/<uuid:pk>/examples/edit/", edits.from_examples, name="edit-examples"),
    # models and recipes
    path("projects/<uuid:pk>/models/", models.model_list, name="models"),
    path("projects/<uuid:pk>/models/new/", models.new_model, name="new-model"),
    path("projects/<uuid:pk>/models/upload/", models.upload_model, name="upload-model"),
    path("projects/<uuid:pk>/recipes/new/", models.new_recipe, name="new-recipe"),
    path("models/<uuid:pk>/", models.model, name="model"),
    path("recipes/<uuid:pk>/", models.recipe, name="recipe"),
    # baselines and behaviours
    path("projects/<uuid:pk>/baselines/", baselines.baseline_list, name="baselines"),
    path("projects/<uuid:pk>/baselines/new/", baselines.new_baseline, name="new-baseline"),
    path("baselines/<uuid:pk>/", baselines.baseline, name="baseline"),
    path("baselines/<uuid:pk>/measure/", example_values.measure, name="measure-examples"),
    path("baselines/<uuid:pk>/attribute/", baselines.attribute, name="attribute"),
    path("baselines/<uuid:pk>/behaviours/new/", behaviours.new_behaviour, name="new-behaviour"),
    path(
        "baselines/<uuid:pk>/behaviours/classes/",
        behaviours.add_classes,
        name="behaviours-per-class",
    ),
    path("behaviours/<uuid:pk>/", behaviours.behaviour, name="behaviour"),
    path("behaviours/<uuid:pk>/tokens/", token_influence.tokens, name="token-influence"),
    path("behaviours/<uuid:pk>/tokens/score/", token_influence.score_tokens, name="score-tokens"),
    # suggestions
    path("behaviours/<uuid:pk>/suggest/", suggestions.suggest, name="suggest"),
    path("suggestions/<uuid:pk>/", suggestions.suggestion, name="suggestion"),
    path("baselines/<uuid:pk>/labels/", suggestions.labels, name="labels"),
    path("baselines/<uuid:pk>/labels/check/", suggestions.check_labels, name="check-labels"),
    # proposals
    path("projects/<uuid:pk>/proposals/", proposals.proposal_list, name="proposals"),
    path("projects/<uuid:pk>/proposals/compare/", proposals.compare, name="compare"),
    path("baselines/<uuid:pk>/proposals/new/", proposals.new_proposal, name="new-proposal"),
    path("proposals/<uuid:pk>/", proposals.proposal, name="proposal"),
    path("proposals/<uuid:pk>/hypothesis/", proposals.edit_hypothesis, name="edit-hypothesis"),
    path("proposals/<uuid:pk>/what-if/", proposals.what_if, name="what-if"),
    path("proposals/<uuid:pk>/effects/", proposals.effects, name="effects"),
    path("proposals/<uuid:pk>/most/", edits.most_influential, name="edit-most-influential"),
    path("proposals/<uuid:pk>/weight/", edits.set_weight, name="set-weight"),
    path("proposals/<uuid:pk>/undo/", edits.undo, name="undo"),
    path("proposals/<uuid:pk>/clear/", edits.clear, name="clear"),
    path("proposals/<uuid:pk>/predict/", proposals.predict, name="predict"),
    path("proposals/<uuid:pk>/copy/", proposals.copy, name="copy-proposal"),
    path("proposals/<uuid:pk>/export/", proposals.export, name="export-proposal"),
    path("proposals/<uuid:pk>/apply/", proposals.apply, name="apply-proposal"),
    path("proposals/<uuid:pk>/register/", registrations.register, name="register"),
    # confirmatory tests
    path("registrations/<uuid:pk>/", registrations.registration, name="registration"),
    path("registrations/<uuid:pk>/progress/", registrations.progress, name="registration-progress"),
    path("registrations/<uuid:pk>/start/", registrations.start, name="start"),
    path("registrations/<uuid:pk>/deviation/", registrations.deviation, name="deviation"),
    path("registrations/<uuid:pk>/abandon/", registrations.abandon, name="abandon"),
    path("registrations/<uuid:pk>/sign-off/", registrations.sign_off, name="sign-off"),
    path("registrations/<uuid:pk>/invalidate/", registrations.invalidate, name="invalidate"),
    path("registrations/<uuid:pk>/ladder/", registrations.ladder, name="ladder"),
    path("registrations/<uuid:pk>/report/", reports.report, name="report"),
    path("registrations/<uuid:pk>/report.json", reports.report_json, name="report-json"),
    # jobs
    path("jobs/<uuid:pk>/", jobs.job, name="job"),
    path("jobs/<uuid:pk>/progress/", jobs.progress, name="job-progress"),
    path("jobs/<uuid:pk>/cancel/", jobs.cancel, name="cancel-job"),
    path("jobs/<uuid:pk>/retry/", jobs.retry, name="retry-job"),
]
