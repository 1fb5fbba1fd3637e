//! The smallest UKI: an EFI program that says which release it is and restarts the machine.
//!
//! A boot loader's counting needs no operating system, and a machine starts such a program in seconds.

use upright_manifests::name::Arch;

/// What it says before the version.
pub(super) const SAYS: &str = "running ";

/// Where its code is loaded.
const CODE_AT: u32 = 0x1000;

/// Length of its headers, and of each of its sections, in bytes.
const HEADERS: usize = 0x400;
const SECTION: usize = 0x200;

/// Prints the text behind it (`ConOut->OutputString`) and calls `ResetSystem(EfiResetCold)`; with Microsoft's calling convention.
///
/// ```text
/// sub rsp,40   mov rbx,rdx   mov rcx,[rdx+64]   lea rdx,[text]   call [rcx+8]
/// mov rax,[rbx+88]   xor ecx,ecx   xor edx,edx   xor r8d,r8d   xor r9d,r9d   call [rax+104]   jmp .
/// ```
const X86_64: [u8; 42] = [
    0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0xd3, 0x48, 0x8b, 0x4a, 0x40, 0x48, 0x8d, 0x15, 24, 0, 0, 0, 0xff,
    0x51, 8, //
    0x48, 0x8b, 0x43, 0x58, 0x31, 0xc9, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0x45, 0x31, 0xc9, 0xff, 0x50, 0x68,
    0xeb, 0xfe, //
    0x90, 0x90,
];

/// The same.
///
/// ```text
/// mov x19,x1   ldr x0,[x1,64]   adr x1,text   ldr x8,[x0,8]   blr x8
/// ldr x8,[x19,88]   mov x0,0   mov x1,0   mov x2,0   mov x3,0   ldr x8,[x8,104]   blr x8   b .
/// ```
const ARM64: [u32; 13] = [
    0xaa01_03f3,
    0xf940_2020,
    0x1000_0161,
    0xf940_0408,
    0xd63f_0100,
    0xf940_2e68,
    0xd280_0000,
    0xd280_0001,
    0xd280_0002,
    0xd280_0003,
    0xf940_3508,
    0xd63f_0100,
    0x1400_0000,
];

/// The UKI of a release of `os`.
pub(super) fn uki(arch: Arch, os: &str, version: &str) -> Vec<u8> {
    let mut code = match arch {
        Arch::X86_64 => X86_64.to_vec(),
        Arch::Arm64 => ARM64.iter().flat_map(|word| word.to_le_bytes()).collect(),
    };
    let text = format!("{SAYS}{version}\r\n\0");
    code.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let line = format!("upright.os={os} upright.version={version} roothash=00");
    let sections = [(".text", code), (".cmdline", line.into_bytes())];
    let mut bytes = headers(arch, &sections);
    for (_, mut content) in sections {
        content.resize(SECTION, 0);
        bytes.extend(content);
    }
    bytes
}

/// Source: Microsoft PE/COFF specification; what is not set here is 0.
fn headers(arch: Arch, sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    const PE: usize = 0x40;
    const OPTIONAL: usize = PE + 24;
    const TABLE: usize = OPTIONAL + 240;
    let mut bytes = vec![0; HEADERS];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let machine: u16 = match arch {
        Arch::X86_64 => 0x8664,
        Arch::Arm64 => 0xaa64,
    };
    put(0, b"MZ");
    put(0x3c, &(PE as u32).to_le_bytes());
    put(PE, b"PE\0\0");
    put(PE + 4, &machine.to_le_bytes());
    put(PE + 6, &(sections.len() as u16).to_le_bytes());
    put(PE + 20, &240u16.to_le_bytes());
    // An executable that needs no relocation.
    put(PE + 22, &0x22u16.to_le_bytes());
    put(OPTIONAL, &0x20bu16.to_le_bytes());
    let image = CODE_AT * (sections.len() as u32 + 1);
    for (at, value) in [
        (4, SECTION as u32),
        (16, CODE_AT),
        (20, CODE_AT),
        (32, 0x1000),
        (36, SECTION as u32),
        (56, image),
        (60, HEADERS as u32),
        (108, 16),
    ] {
        put(OPTIONAL + at, &value.to_le_bytes());
    }
    // An EFI application.
    put(OPTIONAL + 68, &10u16.to_le_bytes());
    for (number, (name, content)) in sections.iter().enumerate() {
        let at = TABLE + number * 40;
        put(at, name.as_bytes());
        for (offset, value) in [
            (8, content.len() as u32),
            (12, CODE_AT * (number as u32 + 1)),
            (16, SECTION as u32),
            (20, (HEADERS + number * SECTION) as u32),
            (36, 0x6000_0020),
        ] {
            put(at + offset, &value.to_le_bytes());
        }
    }
    bytes
}
