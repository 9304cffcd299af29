//! Writes the man pages of section 1 to `Documentation/man`: `cargo run -p cross-tests --bin man`.

use cross_tests::man;

fn main() -> std::io::Result<()> {
    let directory = man::directory();
    std::fs::create_dir_all(&directory)?;
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "1") {
            std::fs::remove_file(path)?;
        }
    }
    for (name, text) in man::pages()? {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}
