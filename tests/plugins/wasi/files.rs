// A guest that uses files by Rust's standard library alone. Its answer's result is a line for each thing done.
// Built with: rustc --target wasm32-wasi --crate-type cdylib -O -C strip=symbols -o files.wasm files.rs

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

fn all() -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    fs::create_dir_all("/out/a/b")?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open("out/a/b/text")?;
    file.write_all(b"one\ntwo\n")?;
    file.seek(SeekFrom::Start(4))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    done.push(rest.trim().to_string());
    OpenOptions::new().append(true).open("/out/a/b/text")?.write_all(b"three\n")?;
    for line in BufReader::new(File::open("out/a/b/text")?).lines() {
        done.push(line?);
    }
    fs::rename("out/a/b/text", "out/moved")?;
    fs::copy("out/moved", "out/copied")?;
    done.push(fs::metadata("out/copied")?.len().to_string());
    let mut names = Vec::new();
    for entry in fs::read_dir("/out")? {
        names.push(entry?.file_name().into_string().unwrap());
    }
    names.sort();
    done.push(names.join(" "));
    fs::remove_dir_all("out/a")?;
    fs::remove_file("out/moved")?;
    for path in ["secret", "/secret", "../outside", "out/none"] {
        done.push(format!("{:?}", fs::read(path).unwrap_err().kind()));
    }
    Ok(done)
}

#[no_mangle]
pub extern "C" fn allocate(length: i32) -> *mut u8 {
    Box::leak(vec![0; length as usize].into_boxed_slice()).as_mut_ptr()
}

#[no_mangle]
pub extern "C" fn handle_request(_at: i32, _length: i32) -> i64 {
    let done = all().unwrap_or_else(|error| vec![error.to_string()]);
    let quoted: Vec<String> = done.iter().map(|line| format!("{:?}", line)).collect();
    let answer = format!(r#"{{"success":true,"error":null,"result":[{}]}}"#, quoted.join(","));
    let answer: &'static str = Box::leak(answer.into_boxed_str());
    (answer.as_ptr() as i64) << 32 | answer.len() as i64
}
