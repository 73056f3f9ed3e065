"""A base is a spec as it was at the merge-base, counted with today's code; where there is none, it is said why."""

from __future__ import annotations

import json
from pathlib import Path

import counted
import gitrepo
import pytest
from gitrepo import BIGGER, GROWN, NET, PARAMS, WIDE, Repo

from convstat.commands import check as check_command
from convstat.config import project
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.count import graphs
from convstat.errors import ConvstatError, ExitCode, UsageError
from convstat.layers.conv import Conv2d
from convstat.results.check import Check
from convstat.results.report import Place
from convstat.targets import revisions


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository with one model on main, left by the branch feature; the command runs in it."""
    made = gitrepo.with_a_branch(tmp_path / "repo")
    monkeypatch.chdir(made.path)
    return made


def check(*targets: str, growth: str = "params=0", base: str | None = "main", **options: object) -> Check:
    """Check growth against a base."""
    return check_command.check(targets or ["net.yaml"], base=base, max_growth=[growth], **options)  # type: ignore[arg-type]


def statuses(found: Check) -> list[str]:
    """The verdicts."""
    return [result.status for result in found.results]


def refused(*targets: str, **options: object) -> str:
    """The text of the error that must come."""
    with pytest.raises(ConvstatError) as caught:
        check(*targets, **options)  # type: ignore[arg-type]
    assert ExitCode.USAGE == caught.value.exit_code
    return str(caught.value)


# --- what is compared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("growth", "status"), [(GROWN - PARAMS - 1, "fail"), (GROWN - PARAMS, "pass")])
def test_growth_is_what_was_added_since_the_merge_base(repo: Repo, growth: int, status: str) -> None:
    """The working tree counts, committed or not; the boundary is inclusive."""
    repo.write("net.yaml", BIGGER)
    for commits in (False, True):
        if commits:
            repo.commit()
        [result] = check(growth=f"params={growth}").results
        assert (status, GROWN, PARAMS, PARAMS + growth) == (result.status, result.actual, result.base, result.limit)


def test_what_happened_on_the_base_branch_since_does_not_count(repo: Repo) -> None:
    """A branch is compared with where it left, not with where the other has gone."""
    repo.git("checkout", "--quiet", "main")
    repo.commit(net_yaml=NET.replace("width: 16", "width: 8"))
    repo.git("checkout", "--quiet", "feature")
    [result] = check().results
    assert ("pass", PARAMS, PARAMS) == (result.status, result.actual, result.base)


def test_the_base_is_counted_with_todays_code(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting otherwise than yesterday is no growth of a model."""
    cost = Conv2d.params
    monkeypatch.setattr(Conv2d, "params", lambda self: cost(self) + 1000)
    # Another comment, so that the text is not the same and both are really counted.
    repo.write("net.yaml", f"# a comment\n{NET}")
    [result] = check().results
    assert ("pass", PARAMS + 2000, PARAMS + 2000) == (result.status, result.actual, result.base)


def test_a_text_that_did_not_change_is_counted_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most models of a repository are as they were, and cost nothing more."""
    calls = []
    count = graphs.count
    monkeypatch.setattr(graphs, "count", lambda *a, **k: calls.append(1) or count(*a, **k))  # type: ignore[func-returns-value]
    assert (["pass"], 1) == (statuses(check()), len(calls))
    repo.write("net.yaml", BIGGER)
    assert (["fail"], 3) == (statuses(check()), len(calls))


def test_variants_and_overrides_hold_for_the_base_too(repo: Repo) -> None:
    """net.yaml#wide is compared with net.yaml#wide, and width=24 with width=24."""
    repo.write("net.yaml", BIGGER)
    [result] = check("net.yaml#wide").results
    assert (3 * 32 * 25 + 32 * 10, WIDE) == (result.actual, result.base)
    [result] = check(requests=Requests({"width": 24})).results
    assert (3 * 24 * 25 + 24 * 10, 3 * 24 * 9 + 24 * 10) == (result.actual, result.base)
    [result] = check(requests=Requests(inputs=("3x4x4",)), growth="macs=0").results
    assert (GROWN * 16, PARAMS * 16) == (result.actual, result.base)


def test_a_failing_check_names_the_layer_the_argument_and_the_line(repo: Repo) -> None:
    """Who reads it can go there; the others stand in one row, so that the growth adds up."""
    repo.write("net.yaml", BIGGER)
    [result] = check().results
    first, rest = result.growth
    assert ("stem", 3 * 16 * 9, 3 * 16 * 25, "changed") == (first.layer, first.old, first.new, first.status)
    assert "kernel_size: 3 -> 5, padding: 1 -> 2" == first.why
    assert Place("net.yaml", 6) == first.source
    assert ("[other 2 layers]", 0) == (rest.name, rest.delta)
    assert GROWN - PARAMS == sum(row.delta for row in result.growth)


def test_an_absolute_limit_says_what_grew_too(repo: Repo) -> None:
    """Where a base is named, every budget is set beside it."""
    repo.write("net.yaml", BIGGER)
    found = check_command.check(["net.yaml"], max=["params=600", "macs=1G"], base="main")
    over, kept = found.results
    assert ("fail", PARAMS, "stem") == (over.status, over.base, over.growth[0].layer)
    assert ("pass", PARAMS * 64, ()) == (kept.status, kept.base, kept.growth)
    assert found.models[0].diff is not None


def test_several_repositories_are_each_asked_for_their_own(repo: Repo, tmp_path: Path) -> None:
    """A spec belongs to the repository that it is in."""
    other = gitrepo.make(tmp_path / "other")
    other.commit(net_yaml=NET.replace("width: 16", "width: 8"))
    other.write("net.yaml", NET)
    found = check("net.yaml", "../other/net.yaml")
    assert ["pass", "fail"] == statuses(found)
    assert [PARAMS, 3 * 8 * 9 + 8 * 10] == [result.base for result in found.results]


def test_it_works_from_a_folder_below_and_through_a_link(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is taken from where the command runs; git's is from the top."""
    repo.commit(configs__net_yaml=NET)
    repo.git("branch", "--force", "main")
    repo.write("configs/net.yaml", BIGGER)
    (repo.path / "link.yaml").symlink_to("configs/net.yaml")
    assert ["fail"] == statuses(check("link.yaml"))
    monkeypatch.chdir(repo.path / "configs")
    assert ["fail", "pass"] == statuses(check("net.yaml", "../net.yaml"))


def test_a_saved_report_has_a_past_too(repo: Repo) -> None:
    """A report that is committed is compared with what it said at the merge-base."""

    def save() -> None:
        document = counted.analyze("net.yaml", counters="none").to_dict()
        repo.write("report.json", json.dumps(document))

    save()
    repo.commit()
    repo.git("branch", "--force", "main")
    repo.write("net.yaml", BIGGER)
    save()
    assert [("fail", PARAMS)] == [(r.status, r.base) for r in check("report.json").results]


def test_the_base_can_be_a_report_or_another_model(repo: Repo, tmp_path: Path) -> None:
    """Then no git is asked, and there is one model to compare."""

    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(counted.analyze("net.yaml", counters="none").to_dict()))
    for base in (str(saved), "main:net.yaml", "net.yaml"):
        assert [("fail", PARAMS)] == [(r.status, r.base) for r in check("net.yaml#wide", base=base).results]
    assert "a single model, but 2 are checked" in refused("net.yaml", "net.yaml#wide", base=str(saved))


# --- new, removed and renamed -------------------------------------------------------------------------------------


def test_a_new_model_skips_what_is_relative_and_keeps_what_is_absolute(repo: Repo) -> None:
    """There is nothing that it could have grown from; it is said, and it is no error."""
    repo.write("new.yaml", NET)
    found = check("new.yaml", max=["params=1"])
    relative, absolute = sorted(found.results, key=lambda result: not result.is_relative)
    assert ("skip", "fail") == (relative.status, absolute.status)
    assert relative.reason is not None
    assert relative.reason.startswith("new model: it is not in main at ")
    base = found.models[0].base
    assert base is not None
    assert ("new", None) == (base.state, base.totals)
    assert ExitCode.OK == check("new.yaml").exit_code


def test_a_new_variant_and_a_new_variable_are_new_models(repo: Repo) -> None:
    """The base could not have been counted so, which is no mistake of today."""
    repo.write(
        "net.yaml", NET.replace("models:", "models:\n  slim: {width: 8}").replace("kernel: 3}", "kernel: 3, n: 1}")
    )
    [result] = check("net.yaml#slim").results
    assert ("skip", True) == (result.status, "has no variant 'slim'" in str(result.reason))
    [result] = check(requests=Requests({"n": 2})).results
    assert ("skip", True) == (result.status, "cannot be counted with these arguments" in str(result.reason))


def test_a_renamed_model_keeps_its_past(repo: Repo) -> None:
    """Another name is no way around a ratchet, as far as git sees it."""
    repo.git("mv", "net.yaml", "better.yaml")
    repo.write("better.yaml", BIGGER)
    [result] = check("better.yaml").results
    assert ("fail", PARAMS) == (result.status, result.base)
    found = check("better.yaml")
    assert found.models[0].base is not None
    assert found.models[0].base.label.endswith("as net.yaml")
    assert () == found.removed


def test_a_removed_model_is_told(repo: Repo) -> None:
    """Its budgets are gone with it, and nobody would notice."""
    repo.commit(old_yaml=NET.replace("name: net", "name: old").replace("width: 16", "width: 99"), ci_yaml="jobs: {}\n")
    repo.git("branch", "--force", "main")
    (repo.path / "old.yaml").unlink()
    (repo.path / "ci.yaml").unlink()
    assert ("old.yaml",) == check().removed
    assert ["old.yaml"] == check().to_dict()["removed"]


def test_a_model_that_the_settings_no_longer_name_is_told(repo: Repo) -> None:
    """It is compared with the settings as they were on the base."""
    settings = 'model = ["net.yaml", "torchvision/resnet18"]\nbudget = ["params<=+0"]\nbase = "main"\n'
    repo.commit(convstat_toml=settings)
    repo.git("branch", "--force", "main")
    repo.write("convstat.toml", settings.replace(', "torchvision/resnet18"', ""))
    found = check_command.check([], Requests(config=project.load()))
    assert (("torchvision/resnet18",), ["pass"]) == (found.removed, statuses(found))


def test_new_layers_have_no_growth_of_their_own(repo: Repo) -> None:
    """A limit on the growth of layers that were not there is skipped; one on each layer looks at the others."""
    repo.write(
        "net.yaml",
        NET.replace("  - ReLU\n", "  - ReLU\n  - Conv2d: {out_channels: 4, kernel_size: 1}\n    name: new\n"),
    )
    [result] = check(growth="params@new=0").results
    assert ("skip", "the base has no such layers; they are new") == (result.status, result.reason)
    [result] = check_command.check(["net.yaml"], max=["params(each)=+0"], base="main").results
    # 16 x 10 weights of the head became 4 x 10; the stem is what it was.
    assert ("pass", 0, 3 * 16 * 9) == (result.status, result.headroom, result.base)


# --- missing ------------------------------------------------------------------------------------------------------


def test_without_a_base_a_relative_budget_is_an_error_that_says_what_to_do(repo: Repo) -> None:
    """Nothing is guessed: no branch is taken because it is called main."""
    text = refused(base=None)
    assert "--max-growth params=0: error: params<=+0 is relative to a base: no base is set" in text
    assert "help: name a revision: --base origin/main" in text
    assert "help: or keep a file: convstat baseline save net.yaml" in text


def test_an_unknown_revision_says_how_to_get_it(repo: Repo) -> None:
    """A branch of a remote is fetched, a mistyped one is named."""
    assert "unknown git revision 'mian'" in refused(base="mian")
    assert "did you mean 'main'?" in refused(base="mian")
    repo.git("remote", "add", "origin", "nowhere")
    assert "help: fetch it: git fetch origin main:refs/remotes/origin/main" in refused(base="origin/main")
    for odd in ("--all", "main^{/x", "a b", "\0"):
        assert "unknown git revision" in refused(base=odd)


def test_one_missing_base_is_told_once_and_not_for_every_model(repo: Repo) -> None:
    """The reason is the same for all of them."""
    repo.commit(a_yaml=NET, b_yaml=NET)
    assert 1 == refused("net.yaml", "a.yaml", "b.yaml", base="nowhere").count(": error: ")


def test_a_shallow_clone_says_what_to_fetch(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuous integration fetches one commit; then there is no merge-base to find."""
    repo.commit(net_yaml=BIGGER)
    repo.git("checkout", "--quiet", "main")
    repo.commit("more")
    clone = Repo(tmp_path / "clone")
    source = f"file://{repo.path}"
    repo.git("clone", "--quiet", "--depth=1", "--branch=feature", source, str(clone.path))
    monkeypatch.chdir(clone.path)
    text = refused(base="origin/main")
    assert "unknown git revision 'origin/main'" in text
    assert "fetch-depth: 0" in text
    clone.git("fetch", "--quiet", "--depth=1", "origin", "main:refs/remotes/origin/main")
    text = refused(base="origin/main")
    assert "have no common commit here: this is a shallow clone" in text
    assert "git fetch --unshallow" in text
    clone.git("fetch", "--quiet", "--unshallow", "origin", "+refs/heads/*:refs/remotes/origin/*")
    assert [("fail", PARAMS)] == [(r.status, r.base) for r in check(base="origin/main").results]


def test_histories_without_a_common_commit_are_no_base(repo: Repo) -> None:
    """Unrelated branches have no merge-base, and it is not because of the clone."""
    repo.git("checkout", "--quiet", "--orphan", "alone")
    repo.commit("alone")
    text = refused()
    assert "HEAD and 'main' have no common commit" in text
    assert "shallow" not in text


def test_a_repository_without_a_commit_is_no_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first commit of a project has nothing before it."""
    made = gitrepo.make(tmp_path / "empty")
    made.write("net.yaml", NET)
    monkeypatch.chdir(made.path)
    assert "there is no commit yet" in refused()


def test_outside_of_git_a_file_can_be_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in a repository says so, and has a way out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "net.yaml").write_text(NET)
    text = refused()
    assert "net.yaml is not in a git repository" in text
    assert "convstat baseline save net.yaml" in text
    from convstat.commands import baseline
    from convstat.history.baseline import Baselines

    baseline.write(Baselines.of(None), ["net.yaml"], Requests(), update=False)
    (tmp_path / "net.yaml").write_text(BIGGER)
    for base in ("main", None):
        assert [("fail", PARAMS)] == [(r.status, r.base) for r in check(base=base).results]


def test_without_git_it_is_said_that_git_is_missing(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container has none; absolute budgets need none."""
    monkeypatch.setenv("PATH", "")
    assert "needs git, which is not installed" in refused()
    assert ["pass"] == statuses(check_command.check(["net.yaml"], max=["params=1k"]))


def test_a_base_that_cannot_be_counted_is_missing(repo: Repo) -> None:
    """A broken spec on main must not keep its repair out: that is what skip is for."""
    repo.git("checkout", "--quiet", "main")
    repo.commit(net_yaml=NET.replace("Conv2d", "Cnov2d"))
    repo.git("checkout", "--quiet", "-B", "feature")
    repo.write("net.yaml", NET)
    text = refused()
    assert "its base cannot be counted: " in text
    assert ":net.yaml:6:" in text
    assert "unknown layer 'Cnov2d'" in text
    [result] = check(missing_baseline="skip").results
    assert ("skip", True) == (result.status, "cannot be counted" in str(result.reason))


def test_a_missing_base_can_be_skipped_and_is_then_told(repo: Repo) -> None:
    """By option or by setting; the absolute budgets are judged as ever."""
    found = check(base="nowhere", missing_baseline="skip", max=["params=1k"])
    assert {"skip", "pass"} == set(statuses(found))
    assert ["net.yaml has no base: unknown git revision 'nowhere'"] == list(found.notes)
    found = check(base="nowhere", requests=Requests(config=Config(missing_baseline="skip")))
    assert (["skip"], ExitCode.OK) == (statuses(found), found.exit_code)
    with pytest.raises(UsageError, match="--missing-baseline is error or skip, not 'ignore'"):
        check(missing_baseline="ignore")


def test_a_base_that_only_absolute_budgets_would_use_is_not_needed(repo: Repo) -> None:
    """It is told that nothing is compared, and the verdict stands."""
    found = check_command.check(["net.yaml"], max=["params=1k"], base="nowhere")
    assert (["pass"], 1) == (statuses(found), len(found.notes))


@pytest.mark.parametrize(("target", "reason"), [("Conv2d(3, 8, 3)", "an inline layer has no history")])
def test_what_has_no_history_has_no_base(repo: Repo, target: str, reason: str) -> None:
    """An inline layer is written anew each time."""
    assert reason in refused(target, requests=Requests(inputs=("3x8x8",)))


def test_a_file_beside_the_working_tree_has_no_base(repo: Repo, tmp_path: Path) -> None:
    """It is in no repository, whatever the working directory is in."""
    (tmp_path / "stray.yaml").write_text(NET)
    assert "stray.yaml is not in a git repository" in refused("../stray.yaml")


# --- already over -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "status"),
    [
        (NET, "params=500", "warn"),
        (NET.replace("width: 16", "width: 15"), "params=500", "warn"),
        (BIGGER, "params=500", "fail"),
        (BIGGER, f"params={PARAMS}", "fail"),
        (NET, "params(each)@stem=400", "warn"),
        (BIGGER, "params(each)@stem=400", "fail"),
        (NET, "macs(share)@stem=10%", "warn"),
        (BIGGER, "macs(share)@stem=10%", "fail"),
    ],
)
def test_what_was_over_already_can_be_a_warning(repo: Repo, text: str, limit: str, status: str) -> None:
    """Only where the base was over too, and the head is no worse; growth is never forgiven."""
    repo.write("net.yaml", f"{text}# changed\n")
    strict = check_command.check(["net.yaml"], max=[limit], base="main")
    assert ["fail"] == statuses(strict)
    [result] = check_command.check(["net.yaml"], max=[limit], base="main", existing="warn").results
    assert status == result.status
    assert ("already exceeded in the base, by as much or more" if status == "warn" else None) == result.reason


def test_looking_at_what_was_over_needs_a_base(repo: Repo) -> None:
    """A setting that could do nothing is a mistake."""
    with pytest.raises(UsageError, match=r"existing = 'warn' needs a base: no base is set"):
        check_command.check(["net.yaml"], max=["params=1"], existing="warn")


# --- git is only asked --------------------------------------------------------------------------------------------


def test_a_hook_of_another_repository_does_not_mislead(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git tells its hooks where it is; a spec belongs to the repository that it lies in."""
    other = gitrepo.make(tmp_path / "other")
    other.commit("other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "nowhere")
    repo.write("net.yaml", BIGGER)
    assert [("fail", PARAMS)] == [(r.status, r.base) for r in check().results]


def test_a_working_tree_of_its_own_is_a_repository_too(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There .git is a file."""
    repo.git("worktree", "add", "--quiet", str(tmp_path / "tree"), "main")
    monkeypatch.chdir(tmp_path / "tree")
    Path("net.yaml").write_text(BIGGER)
    assert [("fail", PARAMS)] == [(r.status, r.base) for r in check(base="feature").results]


def test_texts_are_read_with_one_process(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty models are not fifty processes."""
    names = [f"net{number}.yaml" for number in range(20)]
    for name in names:
        repo.write(name, NET)
    repo.commit()
    repo.git("branch", "--force", "main")
    asked: list[str] = []
    ask = revisions.Repository.ask
    monkeypatch.setattr(revisions.Repository, "ask", lambda self, *a, **k: asked.append(a[0]) or ask(self, *a, **k))  # type: ignore[func-returns-value]
    assert ["pass"] * 20 == statuses(check(*names))
    assert ["rev-parse", "merge-base", "cat-file", "ls-tree", "ls-files"] == asked


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("main:net.yaml", ("main", "net.yaml")),
        ("origin/main:configs/net.yaml", ("origin/main", "configs/net.yaml")),
        ("HEAD~2:./net.yaml", ("HEAD~2", "./net.yaml")),
        ("./a:b.yaml", None),
        ("../a:b.yaml", None),
        ("/a:b.yaml", None),
        ("net.yaml", None),
        (":net.yaml", None),
        ("main:", None),
        ("-x:net.yaml", None),
    ],
)
def test_a_revision_is_told_from_a_path_by_its_form(argument: str, expected: tuple[str, str] | None) -> None:
    """As in git; a file whose name has a colon is written with ./ before it."""
    assert expected == revisions.split(argument)


def test_a_target_at_a_revision_is_counted_anywhere(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """analyze and check take it as diff does; its layers stand at their place in that revision."""

    repo.write("net.yaml", BIGGER)
    report = counted.analyze("main:net.yaml", counters="none")
    assert (PARAMS, Place("main:net.yaml", 6)) == (report.totals.params, report.layers[0].source)
    assert ["pass"] == statuses(check_command.check(["main:net.yaml#wide"], exact=[f"params={WIDE}"]))
    (repo.path / "below").mkdir()
    monkeypatch.chdir(repo.path / "below")
    assert PARAMS == counted.analyze("main:net.yaml", counters="none").totals.params
    assert PARAMS == counted.analyze("main:../net.yaml", counters="none").totals.params
    with pytest.raises(UsageError, match=r"there is no file 'nets.yaml' at main"):
        counted.analyze("main:nets.yaml", counters="none")
