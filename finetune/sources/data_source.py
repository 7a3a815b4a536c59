"""Where the pictures of a run are, and how they are found there: the table of sources that are read
where they lie."""

from dataclasses import dataclass, replace
from pathlib import Path

from finetune.recipe.source_options import AS_IT_LOOKS, SourceOptions
from finetune.sources.class_folders import read_folders
from finetune.sources.label_fixes import with_fixes
from finetune.sources.label_table import is_label_table, read_label_table, table_in
from finetune.sources.listed_pictures import Listing
from finetune.sources.several import joined_listings
from zoo.host.errors import UserError


@dataclass(frozen=True)
class DataSource:
    """Names pictures with their labels."""

    data: Path
    """A folder of class folders, or a table."""
    val: Path | None = None
    """A validation folder that stands elsewhere."""
    options: SourceOptions = AS_IT_LOOKS
    more: tuple[Path, ...] = ()
    """Further folders or tables, whose labels count more than those of earlier ones."""

    def is_there(self) -> bool:
        """Tell whether all places of the pictures exist."""
        places = [self.data, *self.more]
        if self.options.root:
            places.append(Path(self.options.root))
        return all(place.exists() for place in places)

    def listing(self) -> Listing:
        """List the pictures; `UserError` where they cannot be found, and for an option without
        effect."""
        if self.more and self.val is not None:
            raise UserError(
                f"--val {self.val}: with several --data, expected a fraction such as 0.2, or a "
                "folder val/ in one of them."
            )
        listing = self._listed(self.data, least_classes=2)
        if self.more:
            others = [self._listed(place, least_classes=1) for place in self.more]
            listing = joined_listings([listing, *others])
        if self.options.fix:
            listing = with_fixes(listing, Path(self.options.fix))
        if self.options.group_by and not listing.groups:
            listing = with_groups(listing, self.options)
        return listing

    def _listed(self, place: Path, *, least_classes: int) -> Listing:
        """List one folder or table."""
        table = place if is_label_table(place) else table_in(place)
        if table is None:
            self._check_no_table()
            return read_folders(place, val=self.val, least_classes=least_classes)
        if self.val is not None:
            raise UserError(
                f"--val {self.val}: with a table, expected a fraction such as 0.2. Pictures for "
                "validation get a row in the table, and val in its column split."
            )
        return read_label_table(table, self.options, least_classes=least_classes)

    def _check_no_table(self) -> None:
        """Raise `UserError` for options of a table where no source is one."""
        if any(is_label_table(place) or table_in(place) for place in (self.data, *self.more)):
            return
        given = {"--columns": self.options.columns, "--root": self.options.root}
        for flag, value in given.items():
            if value:
                raise UserError(
                    f"{flag} {value} has no effect: {self.data} is no table of labels (.csv, .tsv, "
                    f".jsonl, .parquet). Remove {flag}."
                )


def with_groups(listing: Listing, options: SourceOptions) -> Listing:
    """Group the pictures by what --group-by finds in their paths: its first group in parentheses,
    else all that it matches. A picture in which it finds nothing stays alone."""
    groups: dict[str, str] = {}
    for files in listing.files.values():
        for path, _ in files:
            if match := options.pattern.search(path):
                found = match[1] if options.pattern.groups else match[0]
                if found:
                    groups[path] = found
    if not groups:
        first = next(path for files in listing.files.values() for path, _ in files)
        raise UserError(
            f"--group-by {options.group_by}: it matches no path, for example {first}. Expected a "
            "regular expression with one part in parentheses, such as '(patient[0-9]+)', or a "
            "column of a table."
        )
    return replace(listing, groups=groups)
