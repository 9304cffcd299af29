//! Reads the modules of a crate from its source, and finds the module that defines what a path names.
//!
//! Code that is compiled only for tests is left out: it may use any module.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// The modules of a crate.
#[derive(Debug, Default)]
pub struct Modules {
    /// The source files, the crate's root first.
    pub files: Vec<PathBuf>,
    modules: Vec<Module>,
    /// Macros with `#[macro_export]`, items of the crate's root, with the modules that define them.
    exported: BTreeMap<String, usize>,
}

/// A module, in its own file or inline.
#[derive(Debug, Default)]
struct Module {
    file: usize,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Names that the module defines.
    items: BTreeSet<String>,
    imports: Vec<Import>,
    references: BTreeMap<Vec<String>, usize>,
    /// Names of variables: they hide those of a glob import.
    variables: BTreeSet<String>,
}

/// A name that a `use` brings into a module, or all names of another module.
#[derive(Debug)]
struct Import {
    /// `None` for a glob import.
    name: Option<String>,
    path: Vec<String>,
    line: usize,
    /// Whether other modules can import the name from here.
    public: bool,
}

/// A place where a file uses an item that another file defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The line of the path.
    pub line: usize,
    /// The path as it is written, without generic arguments.
    pub path: String,
}

/// The uses of one file by another, by their indices.
pub type Uses = BTreeMap<(usize, usize), BTreeSet<Use>>;

impl Modules {
    /// Reads the crate whose root is the file `root`.
    ///
    /// # Errors
    /// A sentence that names the file that cannot be read or parsed.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut modules = Self::default();
        let directory = root.parent().unwrap_or(Path::new(""));
        modules.read_file(root, None, directory)?;
        Ok(modules)
    }

    /// Reads the file of a module. The files of its children are in `directory`.
    fn read_file(&mut self, file: &Path, parent: Option<usize>, directory: &Path) -> Result<usize, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut syntax = syn::parse_file(&text)
            .map_err(|error| format!("{}:{}: {error}", file.display(), error.span().start().line))?;
        if syntax.attrs.iter().any(is_for_tests) {
            syntax.items.clear();
        }
        WithoutTests.visit_file_mut(&mut syntax);
        let index = self.files.len();
        self.files.push(file.to_owned());
        self.read_module(index, parent, syntax.items, directory)
    }

    fn read_module(
        &mut self,
        file: usize,
        parent: Option<usize>,
        items: Vec<Item>,
        directory: &Path,
    ) -> Result<usize, String> {
        let index = self.modules.len();
        self.modules.push(Module { file, parent, ..Module::default() });
        for item in items {
            let Item::Mod(declared) = item else {
                let mut collector = Collector { module: &mut self.modules[index], exported: Vec::new() };
                collector.visit_item(&item);
                let exported = collector.exported;
                self.exported.extend(exported.into_iter().map(|name| (name, index)));
                continue;
            };
            let name = plain(&declared.ident);
            let child = match declared.content {
                Some((_, items)) => self.read_module(file, Some(index), items, &directory.join(&name))?,
                None => {
                    let (path, below) = match path_attribute(&declared.attrs) {
                        Some(path) => {
                            let path = self.files[file].parent().unwrap_or(Path::new("")).join(path);
                            let below = path.parent().unwrap_or(Path::new("")).to_owned();
                            (path, below)
                        }
                        None => {
                            let below = directory.join(&name);
                            let own = directory.join(format!("{name}.rs"));
                            (if own.exists() { own } else { below.join("mod.rs") }, below)
                        }
                    };
                    self.read_file(&path, Some(index), &below)?
                }
            };
            self.modules[index].children.insert(name, child);
        }
        Ok(index)
    }

    /// The uses between different files.
    ///
    /// A path counts for the file that defines the item, not for those that re-export it. A `pub use` of an item of a
    /// module below counts for nothing: it gives the item another name, and uses it for nothing.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (index, module) in self.modules.iter().enumerate() {
            let mut add = |path: &[String], line: usize, definers: BTreeSet<usize>| {
                for definer in definers {
                    let to = self.modules[definer].file;
                    if to != module.file {
                        let place = Use { line, path: path.join("::") };
                        uses.entry((module.file, to)).or_default().insert(place);
                    }
                }
            };
            for import in module.imports.iter().filter(|import| import.name.is_some()) {
                let mut definers = self.definers(index, &import.path);
                definers.retain(|definer| !(import.public && self.is_below(*definer, index)));
                add(&import.path, import.line, definers);
            }
            for (path, line) in &module.references {
                add(path, *line, self.definers(index, path));
            }
        }
        uses
    }

    fn is_below(&self, module: usize, above: usize) -> bool {
        std::iter::successors(Some(module), |at| self.modules[*at].parent).skip(1).any(|at| at == above)
    }

    /// The modules that define the item that `path` names in the module `from`; none if it is of another crate, a module
    /// or a local name.
    fn definers(&self, from: usize, path: &[String]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        self.resolve(from, path, &mut BTreeSet::new(), &mut found);
        found
    }

    fn resolve(
        &self,
        from: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, Vec<String>)>,
        found: &mut BTreeSet<usize>,
    ) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        // Imports from other crates can look as if they led to each other, with a path that grows.
        if !seen.insert((from, path.to_vec())) || path.len() > 16 {
            return false;
        }
        match first.as_str() {
            "crate" => self.walk(0, rest, seen, found),
            "self" => self.walk(from, rest, seen, found),
            "super" => {
                let parent = self.modules[from].parent.unwrap_or(0);
                // "super::super" goes on from there.
                if rest.first().is_some_and(|next| next == "super") {
                    self.resolve(parent, rest, seen, found)
                } else {
                    self.walk(parent, rest, seen, found)
                }
            }
            _ => {
                let is_variable = rest.is_empty() && self.modules[from].variables.contains(first);
                self.name(from, first, rest, !is_variable, seen, found)
            }
        }
    }

    /// Follows the rest of a path in a module that the path names.
    fn walk(
        &self,
        module: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, Vec<String>)>,
        found: &mut BTreeSet<usize>,
    ) -> bool {
        let Some((first, rest)) = path.split_first() else { return true };
        if let Some(definer) = self.exported.get(first).filter(|_| module == 0) {
            found.insert(*definer);
        } else if !self.name(module, first, rest, true, seen, found) {
            // What a macro defines has no name here.
            found.insert(module);
        }
        true
    }

    /// Follows a name of a module, and the rest of a path after it. Returns whether the module has the name.
    fn name(
        &self,
        module: usize,
        name: &str,
        rest: &[String],
        by_glob: bool,
        seen: &mut BTreeSet<(usize, Vec<String>)>,
        found: &mut BTreeSet<usize>,
    ) -> bool {
        let at = &self.modules[module];
        let mut is_here = false;
        if let Some(child) = at.children.get(name) {
            is_here = true;
            if !rest.is_empty() {
                return self.walk(*child, rest, seen, found);
            }
        }
        if at.items.contains(name) {
            found.insert(module);
            return true;
        }
        for import in at.imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
            let path: Vec<String> = import.path.iter().chain(rest).cloned().collect();
            self.resolve(module, &path, seen, found);
            // It is the name of something, even if that is of another crate.
            is_here = true;
        }
        if is_here || !by_glob {
            return is_here;
        }
        for import in at.imports.iter().filter(|import| import.name.is_none()) {
            let Some(target) = self.module_at(module, &import.path, 8) else { continue };
            if target == module || !seen.insert((target, vec!["*".to_owned(), name.to_owned()])) {
                continue;
            }
            is_here |= self.name(target, name, rest, true, seen, found);
        }
        is_here
    }

    /// The module that a path names, if it names one of this crate. Follows at most `depth` imports.
    fn module_at(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        let mut at = from;
        for segment in path {
            at = match segment.as_str() {
                "crate" => 0,
                "self" => at,
                "super" => self.modules[at].parent?,
                name => match self.modules[at].children.get(name) {
                    Some(child) => *child,
                    // A module that was imported under this name.
                    None => {
                        let mut imports = self.modules[at].imports.iter();
                        let import = imports.find(|import| import.name.as_deref() == Some(name))?;
                        self.module_at(at, &import.path, depth.checked_sub(1)?)?
                    }
                },
            };
        }
        Some(at)
    }
}

/// The name of an identifier, without the `r#` of a raw one.
fn plain(name: &syn::Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

/// Whether an attribute leaves its item out of all builds except those of tests.
fn is_for_tests(attribute: &Attribute) -> bool {
    fn needs_test(meta: &Meta) -> bool {
        let Meta::List(list) = meta else { return meta.path().is_ident("test") };
        let all = list.parse_args_with(syn::punctuated::Punctuated::<Meta, Token![,]>::parse_terminated);
        let all: Vec<Meta> = all.into_iter().flatten().collect();
        (list.path.is_ident("all") && all.iter().any(needs_test))
            || (list.path.is_ident("any") && !all.is_empty() && all.iter().all(needs_test))
    }
    attribute.path().is_ident("test")
        || (attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|meta| needs_test(&meta)))
}

/// The value of `#[path = "..."]`.
fn path_attribute(attributes: &[Attribute]) -> Option<PathBuf> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(literal), .. }) = &attribute.meta else {
        return None;
    };
    let syn::Lit::Str(path) = &literal.lit else { return None };
    Some(PathBuf::from(path.value()))
}

/// Removes all that is compiled only for tests.
struct WithoutTests;

fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_kept(attributes: &[Attribute]) -> bool {
    !attributes.iter().any(is_for_tests)
}

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| is_kept(attributes_of(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| is_kept(attributes_of(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(|item| match item {
            syn::ImplItem::Const(item) => is_kept(&item.attrs),
            syn::ImplItem::Fn(item) => is_kept(&item.attrs),
            syn::ImplItem::Type(item) => is_kept(&item.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| match statement {
            syn::Stmt::Item(item) => is_kept(attributes_of(item)),
            syn::Stmt::Local(local) => is_kept(&local.attrs),
            syn::Stmt::Macro(call) => is_kept(&call.attrs),
            syn::Stmt::Expr(..) => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

/// Collects what an item defines, imports and refers to.
struct Collector<'m> {
    module: &'m mut Module,
    /// Macros with `#[macro_export]`.
    exported: Vec<String>,
}

impl Collector<'_> {
    fn define(&mut self, name: &syn::Ident) {
        self.module.items.insert(plain(name));
    }

    fn refer(&mut self, path: Vec<String>, line: usize) {
        if path.first().is_some_and(|first| first != "Self") {
            self.module.references.entry(path).or_insert(line);
        }
    }

    fn import(&mut self, tree: &UseTree, path: &mut Vec<String>, public: bool) {
        match tree {
            UseTree::Path(part) => {
                path.push(plain(&part.ident));
                self.import(&part.tree, path, public);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path, public)),
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.module.imports.push(Import { name: None, path: path.clone(), line, public });
            }
            UseTree::Name(syn::UseName { ident, .. }) | UseTree::Rename(syn::UseRename { ident, .. }) => {
                let mut whole = path.clone();
                // `use path::{self}` imports the module itself.
                if ident != "self" || whole.is_empty() {
                    whole.push(plain(ident));
                }
                let name = match tree {
                    UseTree::Rename(renamed) => Some(plain(&renamed.rename)),
                    _ => whole.last().cloned(),
                };
                let line = ident.span().start().line;
                // `use name;` of another crate names nothing of this one.
                if whole.len() > 1 || name.as_ref() != whole.first() {
                    self.module.imports.push(Import { name, path: whole, line, public });
                }
            }
        }
    }

    /// Collects all paths and definitions in the tokens of a macro call or definition.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_punctuation = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == wanted);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    at += 1;
                }
                TokenTree::Ident(first) => {
                    let (line, start) = (first.span().start().line, at);
                    let mut path = vec![plain(first)];
                    at += 1;
                    while is_punctuation(at, ':')
                        && is_punctuation(at + 1, ':')
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 2)
                    {
                        path.push(plain(next));
                        at += 3;
                    }
                    // Neither a field, a lifetime, nor the path of another crate.
                    let before = |mark| start > 0 && is_punctuation(start - 1, mark);
                    let is_absolute = before(':') && start > 1 && is_punctuation(start - 2, ':');
                    if !before('.') && !before('\'') && !is_absolute {
                        let keyword = path.len() == 1 && start > 0 && defines(&tokens[start - 1]);
                        if keyword {
                            self.module.items.extend(path);
                        } else {
                            self.refer(path, line);
                        }
                    }
                }
                _ => at += 1,
            }
        }
    }
}

/// Whether the name after this token is one that is defined.
fn defines(token: &TokenTree) -> bool {
    let keywords = ["const", "enum", "fn", "static", "struct", "trait", "type", "union"];
    matches!(token, TokenTree::Ident(keyword) if keywords.iter().any(|word| keyword == word))
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Const(item) => self.define(&item.ident),
            Item::Enum(item) => self.define(&item.ident),
            Item::Fn(item) => self.define(&item.sig.ident),
            Item::Static(item) => self.define(&item.ident),
            Item::Struct(item) => self.define(&item.ident),
            Item::Trait(item) => self.define(&item.ident),
            Item::TraitAlias(item) => self.define(&item.ident),
            Item::Type(item) => self.define(&item.ident),
            Item::Union(item) => self.define(&item.ident),
            Item::Macro(syn::ItemMacro { ident: Some(name), attrs, .. }) => {
                self.define(name);
                if attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                    self.exported.push(plain(name));
                }
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_foreign_item(&mut self, item: &'ast syn::ForeignItem) {
        match item {
            syn::ForeignItem::Fn(item) => self.define(&item.sig.ident),
            syn::ForeignItem::Static(item) => self.define(&item.ident),
            syn::ForeignItem::Type(item) => self.define(&item.ident),
            _ => {}
        }
        visit::visit_foreign_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            let public = !matches!(item.vis, Visibility::Inherited);
            self.import(&item.tree, &mut Vec::new(), public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
            let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
            self.refer(names, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        self.module.variables.insert(plain(&pattern.ident));
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }
}
